"""SmolLM2: where it is found, what is said if it is not, and that it is the model it should be.

The tests with the real weights run where these have been converted before, and always under `make test-real`.
"""

import json
import os
from pathlib import Path

import pytest

from emloc import Demonstration, NoPruning, Query, UserError, load_backbone, smollm2
from emloc.backbones.base import Backbone
from emloc.smollm2 import HUB, cache_folder
