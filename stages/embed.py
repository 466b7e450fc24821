"""Embed every clip with the models of some arms, those of one seed: data/<profile>/embeddings/<arm>/<seed>/.

An arm whose model, clips and settings are those that its embeddings were made from is left as it is.
"""

import sys
from pathlib import Path

from auscult.errors import run
from auscult.files import digest, digest_of
from auscult.settings.project import Project
from auscult.training.embed import embed_arm, is_made_from
from auscult.training.modelfolder import write_cost


def main() -> None:
    project, seed = Project.open(), int(sys.argv[1])
    paths, batch_size, train = project.paths, project.section("embed").batch_size, project.section("train")
    features = {partition: paths.features(partition) for partition in ("train", "test")}
    common = digest(*features.values(), paths.digests / "stages" / "embed.json"), batch_size, train.decisive()
    for name in sys.argv[2:]:
        arm = project.params.arm(name)
        tested = arm.weights != name
        model, out = paths.model(arm.weights, seed), paths.embeddings(name, seed)
        made_from = digest_of(*common, digest(model, *([paths.inputs(name)] if tested else [])))
        if is_made_from(out, made_from):
            print(f"{name}: embeddings are up to date", file=sys.stderr)
            continue
        train_from: Path | None = paths.embeddings(arm.weights, seed) if tested else None
        cost = embed_arm(model, features, out, batch_size, train, arm.condition, train_from, made_from)
        write_cost(paths.cost("embed", name, seed, arm.weights), cost)


if __name__ == "__main__":
    run(main)
