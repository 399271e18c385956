"""How a model travels: to the runtimes that answer, and back out of them when it has to be stopped."""
