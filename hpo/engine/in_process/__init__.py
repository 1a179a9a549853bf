"""An executor without Ray's processes: a study's trials run as calls in this process.

Tune's controller, its actor manager, the schedulers, the searchers and the trials are those of any study. Only the
actors differ: Tune's calls to them wait in queues and are done here, one at a time, in the order of a virtual clock. So
a study may have any number of devices, needs no running Ray, and costs tenths of a second.

    execute(study, command, console, executor=InProcess(devices=8), open_tracker=Unstored)

A trial that trains has this process as its only rank.
"""

from hpo.engine.in_process.executor import InProcess as InProcess
from hpo.engine.in_process.unstored import Unkept as Unkept
from hpo.engine.in_process.unstored import Unstored as Unstored
