"""Subscriptions (DSUB): who is to be told of what, and the notifications on their way.

``matching`` says within a registration who is to be told (ITI-42, ITI-61 and whoever else
changes objects call it), ``broker`` takes subscriptions and publications (ITI-52, ITI-54),
``notifier`` delivers (ITI-53), ``pull_points`` keeps what is fetched (ITI-69, ITI-70), ``outbox``
holds the statements of delivery, ``records`` is for operators. Matching and delivery meet in the
tables alone.
"""
