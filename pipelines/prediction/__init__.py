"""Parts of `conveyor predict`: where images come from, and how answers are printed."""
