"""``python -m script_runner.cli``: the same as ``script-runner``."""

from script_runner.cli import main

if __name__ == "__main__":
    main(prog_name="script-runner")
