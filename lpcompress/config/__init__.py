"""What a user asks for, checked; read from options or YAML, without torch."""
