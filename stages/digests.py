"""What arms and stages depend on: data/<profile>/digests/. Looked at in every run, and written anew where it has changed."""

from auscult.errors import run
from auscult.pipeline.digests import Code
from auscult.pipeline.stamp import stamp, up_to_date


def main() -> None:
    if up_to_date():
        return
    code = Code()
    code.check()
    # Not before: these load PyTorch, and everything that they could fail at.
    from auscult.pipeline.inputs import write_inputs
    from auscult.settings.project import Project

    write_inputs(Project.open(), code)
    stamp()


if __name__ == "__main__":
    run(main)
