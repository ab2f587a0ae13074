"""Where a run is shown while it trains, besides its log: TensorBoard, Weights & Biases, MLflow.

`tracker.Tracker` is the interface of all of them.
"""
