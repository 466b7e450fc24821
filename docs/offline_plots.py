"""DVC's pages of plots, readable without a network: `python docs/offline_plots.py`, once in a clone.

`dvc plots show` and `dvc plots diff` write a page that asks a public server for its drawing scripts. This writes a template that
holds them (from the package vl-convert-python, in `pip install -e '.[docs]'`) below .dvc/tmp, and names it in .dvc/config.local,
so that both commands use it from then on; neither is in git. `dvc config --local --unset plots.html_template` undoes it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh_tag}
<title>DVC plots</title>
<script>%s</script>
<style>
body {font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; margin: 1rem; color: #1b1f24}
body > div {max-width: 100%%; overflow-x: auto}
img {max-width: min(100%%, 50rem) !important; height: auto}
.vega-embed details {display: none}
</style>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def template() -> str:
    """The page, with its scripts in it."""
    try:
        import vl_convert
    except ModuleNotFoundError:
        raise SystemExit("the drawing scripts come from vl-convert-python: pip install -e '.[docs]'") from None
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return PAGE % script.replace("</script", r"<\/script")


def main() -> None:
    path = Path(".dvc/tmp/plots.html")
    path.parent.mkdir(exist_ok=True)
    path.write_text(template(), encoding="utf-8")
    subprocess.run(["dvc", "config", "--local", "plots.html_template", "tmp/plots.html"], check=True)
    print(
        f"written: {path} ({path.stat().st_size / 1e6:.1f} MB); dvc plots show and dvc plots diff now need no network"
    )


if __name__ == "__main__":
    main()
