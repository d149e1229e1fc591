"""Trains research repositories with reduced configs, validates, kills the run and resumes it."""
