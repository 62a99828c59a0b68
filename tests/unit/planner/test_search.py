"""The search against all layouts on small cases, its limits, and what it says when nothing fits."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import combinations, permutations, product
from random import Random

import pytest
from tests.helpers.layouts import layouts, random_profile

from ithaca.planner.layer import Layer
from ithaca.planner.memory import peak_bytes
from ithaca.planner.plan import Plan, Schedule
from ithaca.planner.profile import Link, Profile
from ithaca.planner.schedule import programs
from ithaca.planner.search import Balancer, Candidate, NoLayoutError, search
from ithaca.planner.simulate import simulate
from ithaca.planner.validate import validate
