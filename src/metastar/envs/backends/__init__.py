"""What simulates a family: the plane of the point robots, MuJoCo's C engine, MJX, brax."""
