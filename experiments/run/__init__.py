"""One run: its options, its data, its training, its folder and its report."""
