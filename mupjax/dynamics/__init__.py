"""Ways to train a network at finite and infinite width; each returns a Trajectory."""
