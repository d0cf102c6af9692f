"""The names of the tasks that travel between our controllers and executors."""

TRAIN_TASK = "fedward_train"
EVALUATE_TASK = "fedward_evaluate"
PUBLISH_TASK = "fedward_publish"
INFER_TASK = "fedward_infer"
