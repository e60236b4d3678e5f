"""The core both columns of the house stand on: records, specs, dispatch, tape. Imports NumPy and ml_dtypes only."""
