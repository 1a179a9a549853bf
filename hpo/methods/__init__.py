"""The methods, one file each. A file becomes a method by being in this folder; nothing is registered elsewhere.

A method's module has

* a docstring: behaviour, paper, limits, advice on when to use it;
* `Arguments`, a pydantic model of its own arguments; its fields become options of the command line and
  parameters of the MLproject entry;
* `plan(study, arguments) -> Plan`, which wires Ray's own searcher and scheduler;
* `TRAITS`, if comparisons or job arrays treat it otherwise than most, see `hpo.core.traits`.

It proposes and stops. The benchmark owns metric, resource and budget, and the runner holds every method to them.
"""
