"""The lines of a job's script around srun."""

import os
import shlex
from pathlib import Path

from src.grid import instructions
from src.grid.execute import failure_file
from src.grid.job import REQUEUE, jobs_folder


def script_lines(code: Path, grid: Path, step: str | None) -> list[str]:
    """Lines of the job's script: where the source is, and what follows when srun ends.

    A job that is still RUNNING then, was not ended by SLURM: it is put back into the queue if it asks for that, or if
    one of its processes was killed by a signal (128 + N; 255 is srun's own trouble); not if a rank of `step` (several
    ranks end each other) left a traceback, and not if it was killed three times before it could note its start.
    """
    failed = f"[ -e {shlex.quote(str(failure_file(grid, step)))} ]" if step else "false"
    fixed = " ".join(f"{n}={shlex.quote(os.environ[n])}" for n in instructions.VARIABLES if n in os.environ)
    return [
        f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}} PYTHONSAFEPATH=1 OMP_NUM_THREADS=1",
        *([f"export {fixed}"] if fixed else []),
        "palimpsest_end() {",
        "  code=$?",
        "  trap - EXIT",
        f"  if {failed} || {{ [ $code -ne {REQUEUE} ] && {{ [ $code -le 128 ] || [ $code -gt 192 ]; }}; }}; then",
        "    exit $code",
        "  fi",
        "  job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}",
        "  job=${job:-$SLURM_JOB_ID} refused=0",
        "  command -v squeue >/dev/null || exit $code",
        f'  starts=$(grep -cs reached {shlex.quote(str(jobs_folder(grid)))}/attempts-"$job"-0.jsonl || true)',
        "  [ ${SLURM_RESTART_COUNT:-0} -lt $((${starts:-0} + 3)) ] || exit $code",
        "  for try in $(seq 60); do",
        '    state=$(squeue -h -j "$job" -o %T 2>/dev/null) || state=UNKNOWN',
        '    if [ "$state" = RUNNING ]; then',
        '      echo "srun ended with $code: back into the queue"',
        '      scontrol requeue "$job" && sleep 60',
        "      refused=$((refused + 1))",
        "      [ $refused -lt 3 ] || exit $code",
        '    elif [ "$state" != UNKNOWN ]; then exit $code; fi',
        "    sleep 5",
        "  done",
        "  exit $code",
        "}",
        "trap palimpsest_end EXIT",
    ]
