"""A world-model planner that drives a vehicle over ROS 2 and finetunes itself by low-rank adapters."""

__version__ = "0.1.0"
