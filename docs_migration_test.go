package lifeguard_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// shownBy names the tests of each row of the tables of docs/MIGRATION.md, by its first cell.
var shownBy = map[string][]string{
	"a command whose reply is lost": {"TestAUserHookSeesEachCallOnceWithTheErrorOfTheCaller", "TestAfterTheLastAttemptAReadHasItsErrorAndAWriteAnUnknownOutcome",
		"TestCallersSeeTheRealErrorAndWhetherItMayHaveHappened"},
	"attempts":                                       {"TestThereAreEightAttemptsOrOneMoreThanMaxRetries", "TestOneAttemptIsOneDial"},
	"the server is unreachable":                      {"TestWithoutADeadlineAnUnreachableServerFailsAfterTheBreakersTimeOnce", "TestAnUnreachableServerIsWaitedForWithoutUsingAttempts"},
	"a full pool":                                    {"TestAPoolTimeoutIsWaitedForOnce", "TestACtxThatEndsWhileWaitingIsBothErrors", "TestAnExhaustedPoolExplainsItself"},
	"`ConnMaxLifetime`":                              {"TestUnderSilenceNoConnectionIsOpenPastItsAge", "TestTheEndsOfAThousandConnectionsAreSpreadOverTheJitter"},
	"`ConnMaxIdleTime`":                              {"TestAfterABurstAndSilenceTheServerSeesMinIdleConns", "TestGoRedissOwnLimitsOfAgeAndIdlenessBecomeOurs"},
	"idle connections":                               {"TestTheHeartbeatKeepsAnIdlePoolAlive"},
	"order of idle connections":                      {"TestIdleConnectionsAreUsedInTurn"},
	"`WithTimeout(d)`":                               {"TestClonesMadeByWithTimeoutStayManaged", "TestACloneHasNoneOfTheHooksOfItsClientAsOnABareOne", "TestACloneOfTheClientInsideGivesTheErrorsOfABareOne"},
	"invalid options":                                {"TestInvalidOptionsAreRefusedByNameAndValue", "TestConstructorsRefuseBadOptionsByNameAndHaveAPanickingForm"},
	"errors of the network":                          {"TestThereAreEightAttemptsOrOneMoreThanMaxRetries", "TestCallersSeeTheRealErrorAndWhetherItMayHaveHappened"},
	"a reply that is cut within a line":              {"TestALineThatIsCutIsAnUnexpectedEOF", "TestATruncatedReplyIsAnUnexpectedEOF"},
	"`Conn()`, and `Watch` without keys":             {"TestInAnOutageWhatIsNotSentWaitsHoweverItIsSent", "TestNothingFailsDuringResets"},
	"`MaxRedirects: -1` of a cluster":                {"TestAClusterWithoutRedirectsFollowsMovedAsAnAttempt"},
	"`TxPipelined` of a cluster whose reply is lost": {"TestATransactionInAClusterIsSentAgainIfAllInItMayBe", "TestATransactionIsRepeatedWholeOrNotAtAll"},
	"`MULTI`, AUTH, SELECT, RESET, CLIENT SETINFO by `rdb.Do`":                                {"TestEveryStateChangingCommandOfAServerIsKnown"},
	"the options that you give to a cluster client":                                           {"TestTheOptionsThatAreGivenToAClusterAreNotChanged", "TestOptionsAreClonedNeverChanged"},
	"a connection that moves after a maintenance notification":                                {"TestContractGoRedisGivesACallerAConnectionThatItIsMoving", "TestACallerWaitsForTheHandshakeOfAConnectionThatMoves"},
	"the error of a handshake that the server refuses (WRONGPASS)":                            {"TestARefusedHandshakeIsAReplyWithGoRedissText"},
	"`PoolStats`: a dial that failed after its caller gave up":                                {"TestADialThatFailedAfterItsCallerGaveUpCountsInNeitherPool"},
	"an `OnConnect` that closes its `*redis.Conn`":                                            {"TestAnOnConnectThatClosesItsConnFailsEachCall"},
	"the second command on a `Conn` whose handshake was refused":                              {"TestAConnWhoseHandshakeWasRefusedTriesItAgainWithTheNextCommand"},
	"a call on a `Conn` or in a `Watch` whose ctx has ended, not of a cluster":                {"TestWhatFollowsOnAConnectionIsNotSentAfterTheEndOfItsCtx"},
	"what hooks of a cluster or ring see of a `TxPipelined` whose ctx has ended":              {"TestHooksOfAClusterAndARingSeeTheEndOfACtxOnMultiAndExecToo"},
	"what hooks on `rdb.Client` see of a pipeline with an argument that cannot be marshalled": {"TestAHookOfTheClientInsideSeesAnErrorWithoutTextOfAnArgumentThatCannotBeMarshalled"},
	"an `Adaptive` client": {"TestOfAnAdaptiveClientUserHooksSeeEachCallOnce"},
	"hooks that `NewClient` of a cluster or ring adds to the client that it returns": {"TestAHookThatNewClientAddsSeesWhatItSeesOnABareClientAndNoVisit",
		"TestAHookThatNewClientAddsMaySendCommandsItself", "TestAPipelineOnALeaseEndsWithItsCtxUnderAHookThatWrapsTheCtx", "TestAHookOfANodeMayLoseTheCtx"},
	"redsync, redislock, redis_rate, go-redis/cache, ulule/limiter, throttled, fiber's storage": {"TestALibraryGivesTheSameResultsAndAHookSeesTheSameCommands",
		"TestALibraryGivesTheSameResultsOnAClusterAndOnARing"},
	"asynq":                 {"TestALibraryKeepsItsPromiseWhileConnectionsAreKilledUnderTraffic"},
	"watermill-redisstream": {"TestALibraryKeepsItsPromiseWhileConnectionsAreKilledUnderTraffic"},
	"redisprometheus":       {"TestRedisprometheusCollectsTheSameNumbers"},
	"redisotel, traces":     {"TestRedisotelGivesTheSameSpansOneByOne", "TestRedisotelGivesTheSameSpansOfACluster"},
	"redisotel, metrics":    {"TestRedisotelCollectsTheSameMetrics"},
}

func TestEachRowOfTheMigrationPageIsShownByATest(t *testing.T) {
	tests := map[string]bool{}
	require.NoError(t, filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			tests[m[1]] = true
		}
		return err
	}))
	page, err := os.ReadFile("docs/MIGRATION.md")
	require.NoError(t, err)
	rows := map[string]bool{}
	for _, line := range strings.Split(string(page), "\n") {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) < 3 {
			continue
		}
		if first := strings.TrimPrefix(cells[0], "| "); first != "what" && first != "library" {
			rows[first] = true
			require.NotEmpty(t, shownBy[first], "no test is named for the row %q", first)
		}
	}
	for row, names := range shownBy {
		require.True(t, rows[row], "there is no row %q", row)
		for _, name := range names {
			require.True(t, tests[name], "the row %q names %s, which is no test", row, name)
		}
	}
}
