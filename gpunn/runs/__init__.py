"""What a run leaves in its folder: written, read, compared.

:mod:`gpunn.runs.folder` has the names of the files, and opens the folder; :mod:`gpunn.runs.records` reads what is in
them; :mod:`gpunn.runs.loaded` is the model of a run; :mod:`gpunn.runs.comparison` sets runs side by side.
"""
