"""What is looked at: one module for each subject. It all blocks."""
