"""Tests for your own project: whether a run resumes exactly, and whether two runs are equal."""

from footplate.testing.resume_check import ResumeReport, RunsDifferError, check_resume, compare_runs

__all__ = ["ResumeReport", "RunsDifferError", "check_resume", "compare_runs"]
