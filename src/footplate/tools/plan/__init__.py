"""Predicts what a run costs on more devices than this machine has."""
