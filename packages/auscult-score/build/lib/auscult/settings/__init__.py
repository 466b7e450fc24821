"""What a run is: params.yaml, profiles, studies, and the settings of an arm that follow from them."""
