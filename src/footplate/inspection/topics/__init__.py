"""What a config will do, topic by topic: hooks, schedule, parameters, loops."""
