"""The command line: `python -m blvnet_lab COMMAND --help`."""

from blvnet_lab.cli import main

if __name__ == "__main__":
    main()
