"""What the theorems assume and conclude, checked on inputs, runs and Datasets.

Nothing is imported here: `inputs` lies below `Task`, the others above the dynamics.
"""
