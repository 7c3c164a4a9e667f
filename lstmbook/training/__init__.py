"""A stack of cells with a head, trained: model and loop, losses, Adam, tasks with a known best."""
