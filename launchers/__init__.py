"""How a plan is executed. Hydra finds the launchers through `hydra_plugins/palimpsest.py` in this folder."""
