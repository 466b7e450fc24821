"""Work on more than one machine, by Dask: an archive is scored in parts, the arms of studies are trained side by side."""
