#!/usr/bin/env bash
# Gathers the packages that a GPU machine without a network may lack, as wheels for Python 3.12 on Linux x86-64, some 30 MB.
# It is expected to have torch with CUDA, transformers, peft, accelerate, safetensors, pyarrow, scipy, scikit-learn, numba,
# sentencepiece, rich and PyYAML already: none of those is gathered.
#
#   make setup && benchmarks/gpu_wheels.sh            # here, into gpu_wheels/, which git ignores
#
# There, with the folder beside the repository's other files:
#
#   python3 -m pip install --no-index --no-deps --find-links gpu_wheels --target /tmp/site gpu_wheels/*.whl
#   PYTHONPATH=/tmp/site python3 -m benchmarks.gpu --quick && PYTHONPATH=/tmp/site python3 -m benchmarks.gpu --out gpu.jsonl
set -euo pipefail
cd "$(dirname "$0")/.."

out=gpu_wheels
python=.venv/bin/python
needed=(
  deepspeed einops hjson pydantic pydantic-core annotated-types typing-inspection  # training
  liger-kernel                                                                     # train.fused_loss
  hydra-core omegaconf antlr4-python3-runtime cloudpickle submitit                 # the application
  jiwer rapidfuzz langdetect nltk defusedxml click immutabledict                   # scores
  soundfile cffi pycparser soxr librosa lazy-loader audioread decorator pooch platformdirs     # audio
  espeakng-loader                                                                  # speech of the laptop profile
  mergekit immutables datasets dill multiprocess                                   # merges, own tables
)
source_only=(deepspeed antlr4-python3-runtime langdetect)
platforms=()
for minor in 39 35 34 31 28 27 26 24 17 12 5; do platforms+=(--platform "manylinux_2_${minor}_x86_64"); done
for year in 2014 2010 1; do platforms+=(--platform "manylinux${year}_x86_64"); done

version_of() {  # as constraints.txt pins it, or the extra `gpu` of pyproject.toml
  sed -nE "s/^$1==([^; ]+).*/\1/p" constraints.txt | grep . || sed -nE "s/.*\"$1==([^\"]+)\".*/\1/p" pyproject.toml
}

rm -rf "$out" && mkdir "$out"
built=() downloaded=()
for name in "${needed[@]}"; do
  version=$(version_of "$name") || { echo "neither constraints.txt nor pyproject.toml pins $name" >&2; exit 1; }
  case " ${source_only[*]} " in *" $name "*) built+=("$name==$version") ;; *) downloaded+=("$name==$version") ;; esac
done
"$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 --abi abi3 --abi none \
  "${platforms[@]}" -d "$out" "${downloaded[@]}"
# DeepSpeed asks for torch when it is built: that of .venv. Without compiled parts its wheel is for every Python 3.
DS_BUILD_OPS=0 "$python" -m pip wheel -q --no-deps --no-build-isolation -w "$out" "${built[@]}"
for wheel in "$out"/*.whl; do
  case $wheel in
    *-py3-none-any.whl | *-py2.py3-none-any.whl | *-py312-none-any.whl | *-cp312-*manylinux*x86_64*.whl | *-abi3-*manylinux*x86_64*.whl | *-none-manylinux*x86_64*.whl) ;;
    *) echo "$wheel is not for Python 3.12 on Linux x86-64" >&2; exit 1 ;;
  esac
done
echo "$(find "$out" -name '*.whl' | wc -l) wheels, $(du -sh "$out" | cut -f1), in $out/"
