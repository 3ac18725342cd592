"""Images: the table of data sets, their readers, augmentation, and the views that evaluation shows to a network."""
