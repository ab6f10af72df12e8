"""The architectures, their one equation, and their files."""

from blvnet_lab.models.cost import Cost, count_cost
from blvnet_lab.models.files import load_model, load_notes, save_model
from blvnet_lab.models.networks import (
    BigLittleNet,
    VideoNet,
    blvnet,
    blvnet_tam,
    capture_points,
    tsn,
    tsn_blnet,
)
from blvnet_lab.models.tam import TAM, PairTAM
