"""The names of the tasks and direct messages that travel between our controllers and executors."""

TRAIN_TASK = "fedward_train"
EVALUATE_TASK = "fedward_evaluate"
PUBLISH_TASK = "fedward_publish"
INFER_TASK = "fedward_infer"
GATE_TASK = "fedward_gate"
COUNT_TASK = "fedward_count"
AGREE_TASK = "fedward_agree"
GIVE_TASK = "fedward_give"
SET_UP_TASK = "fedward_set_up"
SHARES_TASK = "fedward_shares"
DECRYPT_TASK = "fedward_decrypt"
TOTAL_TASK = "fedward_total"

#: Sent straight to a site's running job process.
VOTE_TOPIC = "fedward.vote"
OPEN_TOPIC = "fedward.open"
