"""Training with implicit hidden matrices, shared by exact finite widths and the feature-learning limit."""
