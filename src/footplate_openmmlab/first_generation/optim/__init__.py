"""First-generation schedules and optimizer constructors."""
