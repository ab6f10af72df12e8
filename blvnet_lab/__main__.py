"""The command line: `python -m blvnet_lab COMMAND --help`."""

import logging

import blvnet_lab
from blvnet_lab.cli import main

if __name__ == "__main__":
    if blvnet_lab.BUSY:
        logging.getLogger("blvnet_lab").warning("blvnet_lab: %s", blvnet_lab.BUSY)
    main()
