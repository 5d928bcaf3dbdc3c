"""An operator whose model does not load, in the way that its parameters say; every attempt is noted."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa

from winnow_storage.errors import ModelError
from winnow_workers.operator import Operator, OperatorParams, Prediction, View


class UnopenedParams(OperatorParams):
    """What opening does, and where its attempts are noted."""

    how: Literal["refuses", "ends", "hangs"]
    log: str


class UnopenedOperator(Operator[UnopenedParams]):
    """Says nothing of any image."""

    params_type = UnopenedParams
    default_model = "builtin/fingerprint"

    def open(self) -> None:
        with Path(self.params.log).open("a", encoding="utf-8") as log:
            log.write(f"{os.getpid()}\n")
        if self.params.how == "refuses":
            raise ModelError("its weights are of another network", hint="name the model that they are of")
        if self.params.how == "ends":
            os._exit(1)
        time.sleep(3600)

    @property
    def preproc(self) -> str:
        return "none"

    def fields(self) -> list[pa.Field]:
        return []

    def run(self, views: Sequence[View]) -> list[Prediction]:
        return [Prediction({}) for _ in views]
