"""Claims about the stack, each a test a reader understands."""
