package server

// Read reads replies as Get does, for the fuzzer.
func Read(infoReply, setting, value string) Sample {
	var s Sample
	s.readInfo(infoReply)
	s.readConfig(setting, map[string]string{setting: value}, nil)
	return s
}
