"""Broken and hostile input, a module for each kind; `tools/attack/hostile_inputs.py` tries the cases."""
