"""Numerical checks of the assumptions and conclusions of theorems.

Import the modules by name. This file imports none of them: `inputs` lies below `Task`, the others above the dynamics.
"""
