"""The papers' experiments: settings, and claims that are judged from stored Datasets alone."""
