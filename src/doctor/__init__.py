"""Whether this machine is ready for a profile: `python -m src.doctor profile=paper`."""
