"""The experiment: from a cell to the steps that its row needs. Read this to know what is done, from text to scores.

    data and speech -> units -> examples -\
    base model ----------------------------> chain of stages -> discount -> merge -> responses -> scores
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from src import config
from src.config import Cell
from src.data.settings import ClosedDomain
from src.evaluate import task_files
from src.evaluate.settings import ALL_TASKS, SEEDS, TEXT_TASKS
from src.grid.errors import ConfigError
from src.grid.row import Row
from src.grid.step import Step
from src.grid.typed import typed
from src.model.settings import ScratchModel
from src.speech.pretrained import PretrainedSpeech
from src.speech.settings import FittedSpeech
from src.stages import SETS, TEXT, Stage, before
from src.steps.backbone import Backbone
from src.steps.base import Base
from src.steps.corpus import Corpus
from src.steps.datasets import Datasets
from src.steps.discount import Discount
from src.steps.examples import Examples
from src.steps.gather import Gather
from src.steps.generate import Generate
from src.steps.harness import Harness
from src.steps.kmeans import Kmeans
from src.steps.merge import Merge
from src.steps.quantizer import Quantizer
from src.steps.recognizer import Recognizer
from src.steps.score import Score
from src.steps.train import Train
from src.steps.units import Units
from src.steps.utterances import Utterances
from src.steps.vocoder import Vocoder
from src.train.settings import Optimization

CONF = Path(__file__).resolve().parents[1] / "conf"
