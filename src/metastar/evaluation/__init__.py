"""How good an agent is on tasks it never saw: protocols, exploration, results."""
