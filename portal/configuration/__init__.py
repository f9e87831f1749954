"""The operator's file of channels, models and prices: read (`reader`), merged (`merge`), written back (`writer`)."""
