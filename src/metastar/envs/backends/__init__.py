"""Back ends: the plane of the point robots, MuJoCo's C engine, MJX, and an adapter to brax."""
