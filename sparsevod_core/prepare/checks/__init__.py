"""Dataset report of `prepare-vid --check`: `report.py` runs the checks of the other files."""
