"""What a run will cost on more devices than there are here."""
