# Every target does the set-up it needs; a second call starts in seconds.
# PYTHON=... chooses the interpreter (3.10 to 3.12). A sourced ROS 2 is used; otherwise ROS 2 comes as wheels.

# With any of these, `make drive` drives these episodes; without, it tells the whole story.
# Only driving starts no finetuner and takes no adapters; the last of the options counts: ARGS=--finetuner starts it.
TASK ?=
EPISODES ?=
SEED ?=
ARGS ?=
# What the story's world becomes: TASK:VEHICLE.
SHIFT ?=

export PYTHON
ROS := scripts/with_ros.sh

.PHONY: help setup drive test lint coverage mutation pretrain clean

help:
	@echo "make drive     the whole story in the real ROS stack: drive, shift, adapt, recover, roll back (minutes, on idle cores)"
	@echo "make drive TASK=right_turn_moderate EPISODES=5 SEED=5000"
	@echo "               only drive these episodes, no finetuner, no torch (one of the three is enough, ARGS goes to adawm drive)"
	@echo "make test      all tests, on up to four cores (ARGS goes to pytest)"
	@echo "make lint      ruff and mypy"
	@echo "make coverage  every line and branch of the gate's rules and its watch over inputs, or it fails"
	@echo "make mutation  mutants of the safety core against its tests (half an hour; ARGS, e.g. --json FILE)"
	@echo "make pretrain  world model and policy from nothing (ARGS)"
	@echo "make setup     only the set-up, for all of these"
	@echo "make clean     remove everything that was installed or built here"

setup:
	@scripts/setup.sh develop

ifeq ($(TASK)$(EPISODES)$(SEED)$(ARGS),)
drive:
	@scripts/setup.sh story
	@$(ROS) adawm story $(if $(SHIFT),--shift "$(SHIFT)")
else
drive:
	$(if $(SHIFT),$(error SHIFT is of the story, which TASK, EPISODES, SEED and ARGS replace by plain driving: give \
		SHIFT alone, or ARGS="--vehicle V" without it))
	@scripts/setup.sh drive
	@$(ROS) adawm drive $(if $(TASK),--task "$(TASK)") $(if $(EPISODES),--episodes "$(EPISODES)") \
		--seed "$(or $(SEED),5000)" --no-finetuner $(ARGS)
endif

# A domain of its own keeps the tests apart from every other ROS 2 program on this machine and network; tests/conftest.py
# gives each of the processes that share the tests one of the next. A file's tests stay together, for what they share.
test: setup
	@ROS_DOMAIN_ID=$$(( $$$$ % 90 + 2 )) ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ADAWM_REQUIRE_ROS=1 \
		PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(ROS) python -m pytest -p xdist -n auto --maxprocesses 4 --dist loadfile \
		--no-loadscope-reorder $(ARGS)

lint: setup
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy

coverage: setup
	@PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 .venv/bin/coverage run -m pytest -q tests/safety \
		$(patsubst %,tests/runtime/test_%.py,frame_inputs frame_intake gate_loop input_monitor odometry_way watchdog)
	@.venv/bin/coverage report

mutation: setup
	@.venv/bin/adawm benchmark mutation $(ARGS)

pretrain: setup
	@.venv/bin/adawm pretrain $(ARGS)

clean:
	rm -rf .venv ros2_ws/build ros2_ws/install ros2_ws/log build *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage mutants
	find adawm_planner tests -name __pycache__ -type d -prune -exec rm -rf {} +
