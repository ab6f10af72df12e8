"""Training and evaluation, from a recipe to a log and a checkpoint."""
