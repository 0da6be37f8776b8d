"""What is used of other packages beyond their documented face: a test each, which says what to look at when it goes."""
